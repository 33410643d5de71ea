"""Land-cover maps from a few pixel-labelled aerial images and many that carry only cheap tags."""
