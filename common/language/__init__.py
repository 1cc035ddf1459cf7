"""The languages in which pages and advice are told; verbs, flags and errors are English throughout."""
