"""The REST API, for services that create and read segments: one line in a site's urls.

    path("api/", include("bunce_sync.api.urls"))

Needs the extra ``bunce-sync[api]``. Nothing else in the app imports this package.
"""
