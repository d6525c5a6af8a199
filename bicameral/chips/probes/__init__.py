"""What each vendor's own tool says of the chips in this machine; nothing here opens a device."""
