"""Many segments in one request: all of them, or none and every reason why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from django.db import connections, transaction
from django.utils.translation import gettext as _
from drf_spectacular.utils import OpenApiResponse
from rest_framework.request import Request
from rest_framework.response import Response

from bunce_sync.api import schema
from bunce_sync.api.base import ApiView
from bunce_sync.api.idempotency import REPLAYED, make_once
from bunce_sync.api.problems import Gone
from bunce_sync.api.rows import written
from bunce_sync.api.serializers import BulkAnswerSerializer, BulkSerializer
from bunce_sync.models import Segment
from bunce_sync.publisher import publisher
from bunce_sync.tasks import push_segment


class BulkView(ApiView):
    """Creates up to 1,000 segments."""

    required_permissions: ClassVar = {"post": ("bunce_sync.add_segment",)}

    @schema.describe(
        summary="Create many segments",
        operation_id="segments_bulk",
        request=BulkSerializer,
        parameters=[
            schema.IDEMPOTENCY_KEY,
            schema.REPLAYED_HEADER,
            schema.RETRY_AFTER_CONFLICT,
        ],
        examples=[schema.BULK_EXAMPLE],
        responses={
            201: OpenApiResponse(BulkAnswerSerializer, "All are stored and will be sent."),
        }
        | schema.refusals(
            *(409, 410, 422, *schema.WITH_BODY),
            examples=[schema.BULK_WITHOUT_NAME, schema.KEY_IN_USE],
        ),
    )
    def post(self, request: Request, **kwargs: Any) -> Response:
        """Store 1 to 1,000 segments, all or none.

        When one cannot be accepted, none is stored, and `errors` names every field of every row
        that has to be mended (`segments.3.name`), of the first hundred such rows: so the mended
        request can be sent as a whole, and makes no twins of rows that had gone through.
        """
        serializer = BulkSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        wanted = serializer.validated_data["segments"]

        def make(using: str) -> list[int]:
            return create_many(wanted, using=using)

        made = make_once(request, scope="bulk", body=wanted, make=make)
        rows = {row.pk: row for row in written().filter(pk__in=made.ids)}
        if len(rows) < len(made.ids):
            raise Gone(_("Segments made with this Idempotency-Key have been deleted since."))
        segments = [rows[pk] for pk in made.ids]
        answer = BulkAnswerSerializer({"count": len(segments), "segments": segments})
        return Response(answer.data, 201, headers={REPLAYED: "true"} if made.replayed else {})


def create_many(wanted: Sequence[dict[str, Any]], *, using: str) -> list[int]:
    """Store segments, in one INSERT where the database returns its keys; call in a transaction.

    One message is enough: a woken worker continues with whatever else is due.

    Returns:
        Their ids, in the order given.
    """
    rows = Segment.objects.using(using)
    if connections[using].features.can_return_rows_from_bulk_insert:
        segments = rows.bulk_create(Segment(**fields) for fields in wanted)
    else:  # MySQL, unlike MariaDB, does not return the keys of an INSERT of many rows
        segments = [rows.create(**fields) for fields in wanted]
    ids = [segment.pk for segment in segments]

    def ring() -> None:
        publisher.publish(push_segment, ids[0], using)

    transaction.on_commit(ring, using=using, robust=True)
    return ids
