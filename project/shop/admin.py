from typing import TYPE_CHECKING

from django.contrib import admin

from project.shop.models import Customer, Order

if TYPE_CHECKING:
    CustomerModelAdmin = admin.ModelAdmin[Customer]
    OrderInlineBase = admin.TabularInline[Order, Customer]
else:
    CustomerModelAdmin = admin.ModelAdmin
    OrderInlineBase = admin.TabularInline


class OrderInline(OrderInlineBase):
    model = Order
    extra = 0


@admin.register(Customer)
class CustomerAdmin(CustomerModelAdmin):
    list_display = ("email", "first_name", "last_name", "phone", "joined_at")
    search_fields = ("email",)
    inlines = (OrderInline,)
