"""The model as a source of findings: it reads each file, then what links files, and each finding is judged."""
