"""The engine: spec -> plan -> runner -> journal -> report. It knows no room."""
