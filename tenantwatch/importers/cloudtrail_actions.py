"""What AWS's calls do, in the contract's words."""

import re
from functools import lru_cache
from typing import Final

from tenantwatch.importers.words import action_of

# Who may do what is changed by calls whose verb says something else.
GRANTS: Final = re.compile(
    r"(?:Attach|Put|Set)(?:User|Role|Group|Bucket|Object|Key|Repository|Resource|Queue|Topic|Secret|Vault"
    r"|Registry|Function|Permission|Image)\w*(?:Policy|Acl|Boundary)"
    r"|AddPermission\w*|AddLayerVersionPermission|AddUserToGroup|AdminAddUserToGroup|AddRoleToInstanceProfile"
    r"|AddRoleToDBCluster|CreateGrant|CreatePolicyVersion|SetDefaultPolicyVersion|UpdateAssumeRolePolicy"
    r"|AuthorizeSecurityGroup\w+|AuthorizeDBSecurityGroup\w+|Authorize\w*Access|CreateAccountAssignment"
    r"|AssociateAccessPolicy|CreateGroupMembership"
)
REVOKES: Final = re.compile(
    r"(?:Detach|Delete)(?:User|Role|Group|Bucket|Key|Repository|Resource|Secret|Vault|Registry|Function)"
    r"\w*(?:Policy|Boundary)"
    r"|RemovePermission\w*|RemoveLayerVersionPermission|RemoveUserFromGroup|AdminRemoveUserFromGroup"
    r"|RemoveRoleFromInstanceProfile|RetireGrant|RevokeGrant|DeletePolicyVersion|DeleteAccountAssignment"
    r"|DisassociateAccessPolicy|DeleteGroupMembership"
)
SPECIAL: Final = {
    "SwitchRole": "impersonate",
    "ExitRole": "revoke",
    "GetSessionToken": "create",
    "GetFederationToken": "create",
    "GetSigninToken": "create",
    "CreateExportTask": "export",
    "StartExportTask": "export",
    "CreateInstanceExportTask": "export",
    "Decrypt": "read",
    "ReEncrypt": "update",
    "PasswordUpdated": "update",
    "EnableMFADevice": "update",
}
_WORD: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


@lru_cache(maxsize=1 << 12)
def cloudtrail_action(event_name: str) -> str:
    """Return the action of a call; for a verb that says none, the verb itself.

    >>> [cloudtrail_action(name) for name in ("DescribeInstances", "AttachUserPolicy", "InvokeFunction")]
    ['read', 'grant', 'invoke']
    """
    if event_name in SPECIAL:
        return SPECIAL[event_name]
    if GRANTS.fullmatch(event_name):
        return "grant"
    if REVOKES.fullmatch(event_name):
        return "revoke"
    words: list[str] = _WORD.findall(event_name)
    if not words:
        return "call"
    if words[0].lower() == "batch" and len(words) > 1:
        words = words[1:]
    if words[0].lower() == "schedule" and "Deletion" in words:
        return "delete"
    return action_of(words[0]) or words[0].lower()
