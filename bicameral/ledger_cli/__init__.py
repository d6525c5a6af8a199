"""The commands about money: ledger, keys and prices."""
