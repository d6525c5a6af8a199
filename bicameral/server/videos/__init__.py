"""/v1/videos: jobs that make clips, in a table and a folder, so that they outlive the server."""
