// Shows the API's description; all it needs to know stands in the page, so that no script is inline.
(() => {
  "use strict";
  const place = document.getElementById("api-docs");
  const { schema, csrfHeader, csrfToken } = place.dataset;
  window.SwaggerUIBundle({
    url: schema,
    domNode: place,
    deepLinking: true,
    requestInterceptor: (request) => {
      // Only to this site: the token is nobody else's business.
      if (new URL(request.url, location.href).origin === location.origin) {
        request.headers[csrfHeader] = csrfToken;
      }
      return request;
    },
  });
})();
