"""The first step of a click model's ensemble: raw values to numbers and ids, by the function that prepared the rows."""
