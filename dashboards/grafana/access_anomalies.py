"""Access anomalies: who reaches for what is not theirs, takes too much, or acts unlike themselves."""

from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import units

from dashboards.grafana import variables
from dashboards.grafana.alert_panels import alerts_over_time, alerts_table, open_by_severity
from dashboards.grafana.board import Row, board
from dashboards.grafana.clickhouse import Shape, Sql
from dashboards.grafana.panels import OUTCOME_COLORS, graph, number, rows
from dashboards.grafana.sql import CROSS_TENANT, SEVERITY, USER, current_alerts, events
from detectors.privileges import IDENTITY_ACTIONS, RIGHTS_ACTIONS

DETECTOR = "access_anomaly"
ACCESS = "kind = 'access'"
DENIED = f"{ACCESS} AND outcome = 'failure'"
EXPORT = f"{ACCESS} AND action = 'export'"
PRIVILEGE_ACTIONS = tuple(sorted(RIGHTS_ACTIONS | IDENTITY_ACTIONS))

CROSSINGS = f"""SELECT
  countIf(outcome = 'success') AS allowed,
  countIf(outcome = 'failure') AS denied
{events(f"{ACCESS} AND {CROSS_TENANT}")}"""

DENIALS = f"SELECT count() AS denied\n{events(DENIED)}"

EXPORTED = f"SELECT sum(ifNull(record_count, 0)) AS records\n{events(EXPORT)}"

OUTCOMES = f"""SELECT
  $__timeInterval(time) AS bucket,
  outcome,
  count() AS accesses
{events(ACCESS)}
GROUP BY bucket, outcome
ORDER BY bucket"""

DENIED_PERMISSIONS = f"""SELECT
  $__timeInterval(time) AS bucket,
  if(permission = '', 'none named', permission) AS needed,
  count() AS denied
{events(DENIED)}
  AND permission IN
  (
    SELECT permission
    {events(DENIED)}
    GROUP BY permission ORDER BY count() DESC LIMIT 10
  )
GROUP BY bucket, needed
ORDER BY bucket"""

CROSS_TENANT_ROWS = f"""SELECT
  time,
  tenant_id,
  user_id,
  outcome,
  action,
  resource_type,
  resource_id,
  resource_tenant_id,
  token_tenant_id,
  source_ip,
  service
{events(f"{ACCESS} AND {CROSS_TENANT}")}
ORDER BY outcome = 'failure', time DESC
LIMIT 100"""

RECORDS_OVER_TIME = f"""SELECT
  $__timeInterval(time) AS bucket,
  action,
  sum(record_count) AS records
{events(f"{ACCESS} AND outcome = 'success' AND record_count > 0")}
GROUP BY bucket, action
ORDER BY bucket"""

EXPORTERS = f"""SELECT
  tenant_id,
  user_id,
  countIf(action = 'export') AS exports,
  sumIf(ifNull(record_count, 0), action = 'export') AS records_exported,
  sum(ifNull(record_count, 0)) AS records_all,
  uniqIf(resource_type, resource_type != '') AS resource_types,
  max(time) AS last_access
{events(f"{ACCESS} AND outcome = 'success'")}
GROUP BY tenant_id, user_id
HAVING records_all > 0 OR exports > 0
ORDER BY records_exported DESC, records_all DESC
LIMIT 50"""

DENIED_USERS = f"""SELECT
  tenant_id,
  if(user_id = '', '(anonymous)', user_id) AS who,
  count() AS denied,
  uniqIf(permission, permission != '') AS permissions,
  uniqIf(resource_id, resource_id != '') AS resources,
  uniq(source_ip) AS addresses,
  max(time) AS last_denied
{events(DENIED)}
GROUP BY tenant_id, who
ORDER BY denied DESC
LIMIT 50"""

RESOURCE_TYPES = f"""SELECT
  if(resource_type = '', '(none named)', resource_type) AS what,
  countIf(outcome = 'success') AS allowed,
  countIf(outcome = 'failure') AS denied,
  uniq({USER}) AS users,
  sum(ifNull(record_count, 0)) AS records
{events(ACCESS)}
GROUP BY what
ORDER BY denied DESC, allowed DESC
LIMIT 50"""

PRIVILEGES = f"""SELECT
  time,
  tenant_id,
  user_id,
  action,
  outcome,
  permission,
  resource_type,
  resource_id,
  source_ip
{events(f"{ACCESS} AND action IN {PRIVILEGE_ACTIONS}")}
ORDER BY time DESC
LIMIT 100"""

FIRST_SEEN = f"""SELECT
  toString(current.severity) AS severity,
  status,
  tenant_id,
  entity_value,
  summary,
  score,
  threshold,
  last_time
{current_alerts("last_time", DETECTOR)}
WHERE classification = 'first_seen' AND {SEVERITY}
ORDER BY status = 'resolved', score - threshold DESC
LIMIT 50"""


def access_anomalies() -> models.Dashboard:
    """Return the dashboard for alerts of the detector ``access_anomaly``."""
    return board(
        "access-anomalies",
        "tenantwatch: access anomalies",
        "Denials, crossings between tenants, volume and unusual behaviour in accesses to resources.",
        [variables.tenant(), variables.severity()],
        {
            "Now": [_now(), [alerts_table("Access anomaly alerts", width=24, detector=DETECTOR)]],
            "Across tenants": [_crossing()],
            "Denied": [_denied(), _who()],
            "Taken": [_volume()],
            "Unusual": [
                [alerts_over_time(24, DETECTOR, "classification", "Alerts raised, by classification")],
                _unusual(),
            ],
        },
    )


def _now() -> Row:
    return [
        open_by_severity(width=10, detector=DETECTOR),
        number(
            "Cross-tenant accesses",
            Sql(CROSSINGS),
            see="Accesses with a token of, or to a resource of, another tenant: allowed and denied.",
            worry="any was allowed: a wall between tenants has a hole.",
            act="stop the service that allowed it and find what was read in *Across tenants* below.",
            unit=units.Short,
            width=6,
            colors={"allowed": "dark-red", "denied": "orange"},
        ),
        number(
            "Denied",
            Sql(DENIALS),
            see="Accesses that were denied.",
            worry="it is several times that of the same range on other days.",
            act="see by permission and by user below.",
            unit=units.Short,
            width=4,
        ),
        number(
            "Records exported",
            Sql(EXPORTED),
            see="Records that left by the action `export`.",
            worry="it is far above that of other days, above all at night.",
            act="see who in *Records taken*.",
            unit=units.Short,
            width=4,
        ),
    ]


def _denied() -> Row:
    return [
        graph(
            "Accesses",
            Sql(OUTCOMES, Shape.TIME_SERIES),
            see="Accesses that were allowed (success) and denied (failure), in each interval.",
            worry="denials come in bursts.",
            act="mark the burst with the mouse; the tables then show who it was.",
            unit=units.Short,
            width=12,
            bars=True,
            label="outcome",
            colors=OUTCOME_COLORS,
        ),
        graph(
            "Denied, by permission",
            Sql(DENIED_PERMISSIONS, Shape.TIME_SERIES),
            see="The ten permissions that were lacking most often.",
            worry="many permissions rise together (probing), or one jumps after a release (a broken role).",
            act="a role that lost a permission hits many users at once; probing is one user. Compare below.",
            unit=units.Short,
            width=12,
            bars=True,
            label="needed",
        ),
    ]


def _who() -> Row:
    return [
        rows(
            "Users denied most",
            Sql(DENIED_USERS),
            see="Users by denials, over how many permissions and resources.",
            worry="one user is denied many different permissions (probing) or resources (enumeration).",
            act="end the user's sessions if it is not them; check whether their token leaked.",
            width=12,
        ),
        rows(
            "Resource types",
            Sql(RESOURCE_TYPES),
            see="What is accessed, how often it is denied, by how many users.",
            worry="a sensitive type has more users or more denials than it should.",
            act="compare the roles that hold the permission with who needs it.",
            width=12,
        ),
    ]


def _crossing() -> Row:
    return [
        rows(
            "Across tenants",
            Sql(CROSS_TENANT_ROWS),
            see="The newest accesses to another tenant's resource, or with its token; allowed ones first.",
            worry="one is a success.",
            act="treat a success as a breach: find the service's missing check, tell both tenants' contacts.",
            width=24,
        )
    ]


def _volume() -> Row:
    return [
        graph(
            "Records read and changed",
            Sql(RECORDS_OVER_TIME, Shape.TIME_SERIES),
            see="Records of allowed accesses, by action.",
            worry="`export` or `read` jumps outside working hours.",
            act="see who took them in the table beside.",
            unit=units.Short,
            width=12,
            bars=True,
            label="action",
        ),
        rows(
            "Records taken",
            Sql(EXPORTERS),
            see="Users by records exported, then by records of every action.",
            worry="a user takes far more than colleagues do, or several types of resource.",
            act="ask the user and their manager what for; suspend the account if nobody knows.",
            width=12,
            height=8,
        ),
    ]


def _unusual() -> Row:
    return [
        rows(
            "First seen",
            Sql(FIRST_SEEN),
            see="Alerts about users doing what neither they nor their tenant's users usually do.",
            worry="the score is far above the threshold.",
            act="a new role explains most of them: check who changed it, in the table beside.",
            width=12,
        ),
        rows(
            "Privilege changes",
            Sql(PRIVILEGES),
            see="The newest grants, revocations and impersonations.",
            worry="one is not covered by a ticket, or comes right after an alert about the same user.",
            act="undo it and ask who did it.",
            width=12,
        ),
    ]
