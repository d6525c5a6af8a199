"""What engines need to look at pictures: headers, decoding, nets that are built from weights."""
