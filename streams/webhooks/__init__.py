"""Alerts out: webhooks by Standard Webhooks, one module a step: message, address, sender, schedule, queue.

`delivery.WebhookDelivery` runs them in a worker; `endpoints` adds and changes endpoints, URL checked.
A tenant's endpoint receives that tenant's alerts and nothing else.
"""
