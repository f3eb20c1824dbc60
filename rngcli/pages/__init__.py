"""What a person looks at in a browser: pages of one file that need no other, with no library and nothing fetched."""
