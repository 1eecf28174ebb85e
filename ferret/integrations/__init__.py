"""Ferret inside other people's tools: ASGI services, the `traceparent` header, pytest.

Nothing is imported here: take what you need by its module, such as `ferret.integrations.asgi`.
"""
