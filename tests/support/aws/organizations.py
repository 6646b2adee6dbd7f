"""Organizations: their member accounts, and the condition keys for them.

ministack makes every account that calls Organizations the master of its own organization, and knows no paths. A
statement that opens a repository to an organization would therefore allow nobody. A test sets an account's place:

    POST /_stack/organizations  {"account": "2222…", "path": "o-…/r-…/ou-…/"}   a member from now on; null: of no organization

The path is the value of `aws:PrincipalOrgPaths`, and its first part is the organization's ID. Both keys describe the
caller's account in API calls, AssumeRole (the trust policy) and requests to the registry's `/v2/`.
"""

import re

import ministack.core.iam_evaluator as evaluator

from aws.patching import replaces

# The patterns of the Organizations API.
_PATH = re.compile(r"(o-[a-z0-9]{10,32})/r-[0-9a-z]{4,32}/(ou-[0-9a-z]{4,32}-[a-z0-9]{8,32}/)*")

_paths = {}  # account → path


def join(asked):
    account, path = asked["account"], asked["path"]
    if path is None:
        _paths.pop(account, None)
    elif _PATH.fullmatch(path):
        _paths[account] = path
    else:
        raise ValueError(f"{path} is not a path in an organization: o-…/r-…/ou-…/, with a slash at its end")
    return {}


@replaces(evaluator, "_resolve_condition_key")
def organization_of_the_caller(original, key, context):
    """Returns the condition keys. Accounts in no organization have none, as in AWS.

    `aws:PrincipalOrgPaths` has a list of values, whose operators need `ForAnyValue:` or `ForAllValues:`. ministack's
    evaluator supports these. An operator without them compares with the list as one text, which matches no path, so
    that a test notices when they are missing.
    """
    path = _paths.get(context.principal_account)
    if key.lower() == "aws:principalorgid":
        return path and path.partition("/")[0]
    if key.lower() == "aws:principalorgpaths":
        return path and [path]
    return original(key, context)
