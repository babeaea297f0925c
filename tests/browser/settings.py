"""The sample site under a strict Content-Security-Policy, with Django's own settings from 6.0."""

import django

from project.settings import *  # noqa: F403 - the sample site's settings, unchanged
from project.settings import MIDDLEWARE as _MIDDLEWARE

if django.VERSION >= (6, 0):
    MIDDLEWARE = [*_MIDDLEWARE, "django.middleware.csp.ContentSecurityPolicyMiddleware"]
    SECURE_CSP = {"default-src": ["'self'"]}
else:
    MIDDLEWARE = [*_MIDDLEWARE, "tests.browser.csp.StrictPolicy"]
