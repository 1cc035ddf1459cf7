"""BERT4Rec: the next item of an ordered history."""
