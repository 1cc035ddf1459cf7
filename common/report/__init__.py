"""The run's page: one self-contained HTML file that also shows a run that is still going on."""
