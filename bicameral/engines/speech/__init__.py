"""What hears: features and tokens of Whisper, spans of speech, the work on a thread."""
