"""An app with an audience, for the browser."""
