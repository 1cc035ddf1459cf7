"""What is read about the kit. A package, so that one of this name in an environment is not taken for it."""
