"""`make prove-gpu`: everything that only a GPU can show, in one bounded run, and the wheels that it takes along."""
