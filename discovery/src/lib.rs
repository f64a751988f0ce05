//! Sources that fill the catalog's inputs: Docker engines and the configuration file.
