"""The book of what each call consumed and cost."""
