"""The customers of a segment over REST."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final

from django.db.models import QuerySet
from django.utils.translation import gettext as _
from drf_spectacular.utils import OpenApiExample, extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.generics import GenericAPIView
from rest_framework.mixins import ListModelMixin
from rest_framework.request import Request
from rest_framework.response import Response

from bunce_sync import database
from bunce_sync.api import schema
from bunce_sync.api.base import ApiView
from bunce_sync.api.idempotency import mark_replay, run_once
from bunce_sync.api.pagination import IdPagination
from bunce_sync.api.problems import Conflict
from bunce_sync.api.serializers import StrictSerializer
from bunce_sync.choices import MemberStatus
from bunce_sync.customer_entries import (
    FIELDS,
    MAX_LENGTH,
    InvalidCustomer,
    read_entry,
)
from bunce_sync.exceptions import CustomersNotByHand
from bunce_sync.models import Member, Segment
from bunce_sync.status.customers import CustomerCounts, SegmentCustomers, customers_of

if TYPE_CHECKING:
    Serializer = serializers.Serializer[Any]
    Field = serializers.Field[Any, Any, Any, Any]
    MemberSerializer = serializers.ModelSerializer[Member]
    MemberGenericView = GenericAPIView[Member]
else:
    Serializer = serializers.Serializer
    Field = serializers.Field
    MemberSerializer = serializers.ModelSerializer
    MemberGenericView = GenericAPIView

#: The most customers in one request.
MAX_CUSTOMERS: Final = 1000
#: The largest id that the database can hold.
MAX_ID: Final = 2**63 - 1

_TEXT: Final = {"type": ["string", "null"], "maxLength": MAX_LENGTH}
EXAMPLE = OpenApiExample(
    "Two customers",
    {"customers": ["c-1", {"customer_id": "c-2", "email": "ann@example.com"}]},
    request_only=True,
)


@extend_schema_field(
    {
        "oneOf": [
            {"type": "string", "minLength": 1, "maxLength": MAX_LENGTH},
            {"type": "integer"},
            {
                "type": "object",
                "properties": dict.fromkeys(FIELDS, _TEXT),
                "additionalProperties": False,
                "minProperties": 1,
            },
        ],
        "description": (
            "The site's id of the customer or an email address; or an object with `customer_id`,"
            " `email` or both."
        ),
    }
)
class CustomerField(Field):
    """One customer."""

    def to_internal_value(self, data: Any) -> Any:
        """Return the customer as it was given, if it can be used.

        Raises:
            ValidationError: it cannot; the message does not repeat it.
        """
        try:
            read_entry(data)
        except InvalidCustomer as error:
            raise ValidationError(str(error)) from None
        return data


class CustomersSerializer(StrictSerializer):
    """Customers to add to a segment, or to remove."""

    customers = serializers.ListField(child=CustomerField(), min_length=1, max_length=MAX_CUSTOMERS)


class StoredSerializer(Serializer):
    """Where to see what becomes of customers that are stored."""

    customers_url = serializers.URLField(
        help_text="Shows how many customers of the segment wait, are in Bunce or were refused."
    )


class AddedSerializer(StoredSerializer):
    """What became of the customers to add."""

    added = serializers.IntegerField(help_text="Not in the segment before.")
    changed = serializers.IntegerField(help_text="In the segment, with other details.")
    unchanged = serializers.IntegerField()
    forgotten = serializers.IntegerField(
        help_text="Left out: they asked to be forgotten, see `manage.py bunce_forget`."
    )


class RemovedSerializer(StoredSerializer):
    """What became of the customers to remove."""

    removed = serializers.IntegerField()
    unchanged = serializers.IntegerField(help_text="Not in the segment.")


class CustomerProblemSerializer(Serializer):
    """Something that keeps customers from being in Bunce as they are here."""

    summary = serializers.CharField(help_text="What happened.")
    cause = serializers.CharField(help_text="Why.")
    action = serializers.CharField(help_text="What to do.")
    detail = serializers.CharField(help_text="Bunce's message or a technical one; may be empty.")


class SegmentCustomersSerializer(Serializer):
    """How many customers a segment has, and what is wrong."""

    members = serializers.IntegerField(help_text="Who belong in the segment.")
    in_bunce = serializers.IntegerField(help_text="Who are in Bunce as they are here.")
    to_add = serializers.IntegerField(help_text="Who wait to be added or updated.")
    to_remove = serializers.IntegerField(help_text="Who wait to be removed.")
    refused = serializers.IntegerField(help_text="Whom Bunce refused.")
    audience = serializers.CharField(
        allow_null=True, help_text="The key of the audience they come from. Null: added by hand."
    )
    compared_at = serializers.DateTimeField(
        allow_null=True, help_text="When the audience was last compared with the customers."
    )
    next_comparison_at = serializers.DateTimeField(
        allow_null=True, help_text="Null: no comparison is scheduled."
    )
    held_removals = serializers.IntegerField(
        help_text="Removals that a person has to confirm before they happen."
    )
    bunce_counts = serializers.IntegerField(
        allow_null=True, help_text="How many customers Bunce counts, if read after the last change."
    )
    problems = CustomerProblemSerializer(many=True)


class RefusedCustomerSerializer(MemberSerializer):
    """A customer that Bunce refused to add or to remove."""

    wanted = serializers.BooleanField(
        read_only=True, help_text="False: Bunce refused to remove the customer."
    )

    class Meta:
        model = Member
        fields = ("id", "identifier", "wanted", "last_code", "last_error")
        read_only_fields = fields


class SegmentView(ApiView):
    """A view of something that belongs to a segment."""

    def get_segment(self, pk: str) -> Segment:
        """Return a segment that the site's object permissions allow.

        Raises:
            NotFound: there is none.
        """
        segment = database.segments().filter(pk=pk).first() if int(pk) <= MAX_ID else None
        if segment is None:
            raise NotFound(_("No segment has this id."))
        self.check_object_permissions(self.request, segment)
        return segment


class CustomersView(SegmentView):
    """The customers of one segment."""

    http_method_names = ["get", "head", "post", "delete"]
    required_permissions: ClassVar = {
        "get": ("bunce_sync.view_segment",),
        "post": ("bunce_sync.change_customers",),
        "delete": ("bunce_sync.change_customers",),
    }

    @extend_schema(
        operation_id="segments_customers_retrieve",
        summary="Count the customers of a segment",
        parameters=[schema.ID],
        responses=SegmentCustomersSerializer,
    )
    def get(self, request: Request, **kwargs: Any) -> Response:
        """Return how many customers the segment has here, and what is wrong with them."""
        status = customers_of(self.get_segment(kwargs["id"])) or SegmentCustomers(CustomerCounts())
        counts = status.counts
        body = {
            "members": counts.members,
            "in_bunce": counts.in_bunce,
            "to_add": counts.to_add,
            "to_remove": counts.to_remove,
            "refused": counts.refused,
            "audience": status.key,
            "compared_at": status.compared_at,
            "next_comparison_at": status.next_at if status.maintained else None,
            "held_removals": status.held or 0,
            "bunce_counts": status.bunce_count,
            "problems": status.problems,
        }
        return Response(SegmentCustomersSerializer(body).data)

    @extend_schema(
        operation_id="segments_customers_create",
        summary="Add customers to a segment",
        request=CustomersSerializer,
        parameters=[schema.ID, schema.IDEMPOTENCY_KEY, schema.REPLAYED_HEADER],
        responses={202: AddedSerializer},
        examples=[EXAMPLE],
    )
    def post(self, request: Request, **kwargs: Any) -> Response:
        """Have 1 to 1,000 customers in the segment, all or none of them.

        Bunce creates customers that it does not know, and updates the others with what is given.
        Repeating the request changes nothing, except that customers whom Bunce refused meanwhile
        are sent again.
        """
        segment, customers = self.get_segment(kwargs["id"]), _customers(request)
        entries = [read_entry(one) for one in customers]
        normal = [[one.identifier, one.is_email, sorted(one.profile.items())] for one in entries]
        return self._change(
            ["add customers", segment.pk, normal],
            lambda: segment.add_customers(customers),
            ("added", "changed", "unchanged", "forgotten"),
        )

    @extend_schema(
        operation_id="segments_customers_destroy",
        summary="Remove customers from a segment",
        request=CustomersSerializer,
        parameters=[schema.ID, schema.IDEMPOTENCY_KEY, schema.REPLAYED_HEADER],
        responses={202: RemovedSerializer},
        examples=[EXAMPLE],
    )
    def delete(self, request: Request, **kwargs: Any) -> Response:
        """Have 1 to 1,000 customers out of the segment. Bunce keeps the customers themselves.

        Those that are not in the segment are ignored. Repeating the request changes nothing.
        """
        segment, customers = self.get_segment(kwargs["id"]), _customers(request)
        return self._change(
            ["remove customers", segment.pk, [read_entry(one).identifier for one in customers]],
            lambda: segment.remove_customers(customers),
            ("removed", "unchanged"),
        )

    def _change(
        self, body: Any, change: Callable[[], Counter[str]], names: Sequence[str]
    ) -> Response:
        """Add or remove customers, once per ``Idempotency-Key``; return how many.

        Args:
            body: what identifies the request, see ``run_once``.
            names: of the counts in the response.

        Raises:
            Conflict: the segment's customers cannot be changed by hand.
        """

        def counted() -> dict[str, int]:
            counts = change()
            return {name: counts[name] for name in names}

        try:
            done = run_once(self.request, body, counted)
        except CustomersNotByHand as error:
            raise Conflict(str(error), "customers_not_by_hand") from None
        customers_url = self.request.build_absolute_uri(self.reverse("customers"))
        return mark_replay(Response({**done.result, "customers_url": customers_url}, 202), done)


class RefusedCustomersView(SegmentView, ListModelMixin, MemberGenericView):
    """The customers of one segment that Bunce refused."""

    http_method_names = ["get", "head"]
    required_permissions: ClassVar = {
        "get": ("bunce_sync.view_segment", "bunce_sync.view_member"),
    }
    queryset = Member.objects.none()
    serializer_class = RefusedCustomerSerializer
    pagination_class = IdPagination

    def get_queryset(self) -> QuerySet[Member]:
        """Return the refused customers of the segment."""
        segment = self.get_segment(self.kwargs["id"])
        return database.members().filter(segment=segment, status=MemberStatus.REFUSED)

    @extend_schema(
        operation_id="segments_customers_refused_list",
        summary="List the refused customers of a segment",
        parameters=[schema.ID],
    )
    def get(self, request: Request, **kwargs: Any) -> Response:
        """Return the customers whom Bunce refused to add or to remove, and its words."""
        return self.list(request, **kwargs)


def _customers(request: Request) -> list[Any]:
    serializer = CustomersSerializer(data=request.data)
    serializer.is_valid(raise_exception=True)
    customers: list[Any] = serializer.validated_data["customers"]
    return customers
