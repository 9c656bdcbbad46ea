"""Names of MITRE ATT&CK techniques, as in its Enterprise matrix (version 17)."""

from typing import Final

_NAMES: Final = {
    "T1020": "Automated Exfiltration",
    "T1069": "Permission Groups Discovery",
    "T1078": "Valid Accounts",
    "T1078.004": "Valid Accounts: Cloud Accounts",
    "T1087": "Account Discovery",
    "T1098": "Account Manipulation",
    "T1098.003": "Account Manipulation: Additional Cloud Roles",
    "T1110": "Brute Force",
    "T1110.001": "Brute Force: Password Guessing",
    "T1110.003": "Brute Force: Password Spraying",
    "T1110.004": "Brute Force: Credential Stuffing",
    "T1119": "Automated Collection",
    "T1134": "Access Token Manipulation",
    "T1136": "Create Account",
    "T1190": "Exploit Public-Facing Application",
    "T1213": "Data from Information Repositories",
    "T1485": "Data Destruction",
    "T1489": "Service Stop",
    "T1496": "Resource Hijacking",
    "T1498": "Network Denial of Service",
    "T1499": "Endpoint Denial of Service",
    "T1526": "Cloud Service Discovery",
    "T1528": "Steal Application Access Token",
    "T1530": "Data from Cloud Storage",
    "T1531": "Account Access Removal",
    "T1548": "Abuse Elevation Control Mechanism",
    "T1548.005": "Abuse Elevation Control Mechanism: Temporary Elevated Cloud Access",
    "T1550": "Use Alternate Authentication Material",
    "T1550.001": "Use Alternate Authentication Material: Application Access Token",
    "T1550.004": "Use Alternate Authentication Material: Web Session Cookie",
    "T1556": "Modify Authentication Process",
    "T1562": "Impair Defenses",
    "T1567": "Exfiltration Over Web Service",
    "T1580": "Cloud Infrastructure Discovery",
    "T1589": "Gather Victim Identity Information",
    "T1595": "Active Scanning",
    "T1595.003": "Active Scanning: Wordlist Scanning",
    "T1606": "Forge Web Credentials",
    "T1621": "Multi-Factor Authentication Request Generation",
}


def technique_name(technique: str) -> str | None:
    """Return the name of a technique; None for one that is not in the table, as a rule's tag may not be.

    >>> technique_name("T1110.003")
    'Brute Force: Password Spraying'
    """
    return _NAMES.get(technique)
