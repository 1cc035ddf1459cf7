"""A page in the browser over trained runs: what it asks with, what it shows, and what people say was right."""
