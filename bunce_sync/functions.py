"""The database's clock, which all hosts share."""

from __future__ import annotations

from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import DateTimeField
from django.db.models.functions import Now
from django.db.models.sql.compiler import SQLCompiler


class DatabaseNow(Now):
    """The database's current time in UTC.

    On MySQL, Django's ``Now`` is in the session's time zone: on a server that does not run in UTC,
    leases and permits would be off by hours. On SQLite, which compares times as text, ``Now`` has
    three decimals where Django writes six, or none for a whole second, so a value that was read
    and written again would no longer equal itself.
    """

    output_field = DateTimeField()

    def as_mysql(
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **extra_context: Any
    ) -> tuple[str, Any]:
        return self.as_sql(compiler, connection, template="UTC_TIMESTAMP(6)", **extra_context)

    def as_sqlite(
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **extra_context: Any
    ) -> tuple[str, Any]:
        now = "STRFTIME('%%%%Y-%%%%m-%%%%d %%%%H:%%%%M:%%%%f', 'NOW')"
        template = f"REPLACE({now} || '000', '.000000', '')"
        return self.as_sql(compiler, connection, template=template, **extra_context)
