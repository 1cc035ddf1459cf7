"""Files that nothing is lost in: folders that are claimed, locks, weights."""
