"""What every challenge shares: recipes, the trainer, data graphs, export, serving, reports."""
