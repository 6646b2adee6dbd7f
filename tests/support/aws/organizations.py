"""Organizations: which accounts are members of which, and the condition keys by which a policy asks for it.

ministack makes every account that calls Organizations the master of one of its own, and knows no paths, so a statement
that opens a repository to an organization would let nobody in. Here a test says where an account stands:

    POST /_stack/organizations  {"account": "2222…", "path": "o-…/r-…/ou-…/"}   a member from now on; null: of none

The path is the value of `aws:PrincipalOrgPaths`; the organization's ID is its first part. Both keys are of the caller's
account, whoever asks: an API call, AssumeRole (the trust policy), the registry's `/v2/`.
"""

import re

import ministack.core.iam_evaluator as evaluator

from aws.patching import replaces

# By the Organizations API's patterns.
_PATH = re.compile(r"(o-[a-z0-9]{10,32})/r-[0-9a-z]{4,32}/(ou-[0-9a-z]{4,32}-[a-z0-9]{8,32}/)*")

_paths = {}  # account → path


def join(asked):
    account, path = asked["account"], asked["path"]
    if path is None:
        _paths.pop(account, None)
    elif _PATH.fullmatch(path):
        _paths[account] = path
    else:
        raise ValueError(f"{path} is no path in an organization: o-…/r-…/ou-…/, with a slash at its end")
    return {}


@replaces(evaluator, "_resolve_condition_key")
def organization_of_the_caller(original, key, context):
    """None for accounts in no organization, as in AWS: a key that is not there.

    `aws:PrincipalOrgPaths` has a list of values, whose operators need `ForAnyValue:` or `ForAllValues:`. ministack's
    evaluator does these right; an operator without them meets the list as one text, which is like no path, so that who
    forgets them notices.
    """
    path = _paths.get(context.principal_account)
    if key.lower() == "aws:principalorgid":
        return path and path.partition("/")[0]
    if key.lower() == "aws:principalorgpaths":
        return path and [path]
    return original(key, context)
