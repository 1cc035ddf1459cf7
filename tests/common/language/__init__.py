"""Tests of common/language."""
