"""The REST API. To use it, add one line to the site's URLs::

    path("api/", include("bunce_sync.api.urls"))

It needs the extra ``bunce-sync[api]``. Nothing else in the app imports this package.
"""
