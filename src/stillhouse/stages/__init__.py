"""The stages of the workflow, one file each: read files, call the pure code, write files. The command line calls these."""
