"""What each detector can tell of: every class has a scenario that fires and one that is silent."""

CLASSES = {
    "failed_login": {
        "brute_force",
        "password_spray",
        "user_enumeration",
        "credential_stuffing",
        "success_after_failures",
        "distributed_guessing",
        "mfa_fatigue",
        "mfa_fatigue_success",
        "cross_tenant_spray",
        "impossible_travel",
    },
    "rate_breach": {"rate_breach"},
    "service_health": {"error_burst", "slow_requests", "volume_anomaly", "level_shift", "silence"},
    "custom_rule": {"selection", "event_count", "value_count", "temporal", "temporal_ordered"},
    "access_anomaly": {
        "cross_tenant",
        "denied_burst",
        "permission_probing",
        "enumeration",
        "first_seen",
        "volume",
        "privilege_change",
    },
}
