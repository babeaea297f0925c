"""The addresses of the sample site with those that django-grappelli needs."""

from django.urls import include, path

from project.urls import urlpatterns as _urlpatterns

urlpatterns = [path("grappelli/", include("grappelli.urls")), *_urlpatterns]
