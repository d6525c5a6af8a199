"""What minds decided and how their answers were rated, kept in one SQLite file."""
