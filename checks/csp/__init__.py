"""Content-Security-Policy: read as browsers read it, evaluated by Google's csp_evaluator, unmodified, in QuickJS."""
