"""What a run is: its recipe, its folder and its result."""
