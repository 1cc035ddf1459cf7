"""Wide & Deep: a linear model of crossed columns beside a deep one."""
