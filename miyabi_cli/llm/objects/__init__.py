"""JSON objects as models write them: read, fitted to a schema, validated."""
