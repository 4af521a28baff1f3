"""From a destination's configuration to the rules of its lane."""

from forwarder.config.model import Destination
from forwarder.core.lane.outcome import Answers
from forwarder.core.lane.retry import RetryPolicy
from forwarder.core.lane.rules import OrderLimits, Rules
from forwarder.vendors.base import Vendor


def rules(destination: Destination, vendor: Vendor) -> Rules:
    """Return the rules of a lane."""
    overrides = {int(status): meaning for status, meaning in destination.answers.items() if status.isdecimal()}
    return Rules(
        answers=Answers(name=destination.name, vendor=vendor.answers, overrides=overrides),
        batched=vendor.batched,
        policy=RetryPolicy(initial=destination.retry.initial, max=destination.retry.max),
        concurrency=destination.concurrency,
        interval=destination.flush.interval,
        max_events=destination.flush.max_events,
        max_bytes=destination.flush.max_bytes,
        max_attempts=destination.max_attempts,
        max_ambiguous=1 if destination.on_ambiguous == "dead_letter" else destination.max_ambiguous,
        storm_min=destination.storm.min,
        max_age=destination.max_age,
        profile_max_age=destination.profile_max_age,
        drop_expired=destination.expired == "drop",
        events_per_second=destination.rate_limit.events,
        requests_per_second=destination.rate_limit.requests,
        order=OrderLimits(
            records=destination.order.look_ahead,
            bytes=destination.order.look_ahead_bytes,
            per_person=destination.order.per_person,
            persons=destination.order.persons,
            links=destination.order.links,
        ),
    )
