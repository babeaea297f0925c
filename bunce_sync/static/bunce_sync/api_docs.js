// Shows the API's description with Swagger UI. Its options are data attributes, so no script is inline.
(() => {
  "use strict";
  const place = document.getElementById("api-docs");
  if (!window.SwaggerUIBundle) {
    return; // The page says why.
  }
  const { schema, csrfHeader, csrfToken } = place.dataset;
  window.SwaggerUIBundle({
    url: schema,
    domNode: place,
    deepLinking: true,
    requestInterceptor: (request) => {
      // Never send the token to another site.
      if (new URL(request.url, location.href).origin === location.origin) {
        request.headers[csrfHeader] = csrfToken;
      }
      return request;
    },
  });
})();
