"""Published data sets, and one's own command for each: fetched by name, verified, laid out as the kit reads them."""
