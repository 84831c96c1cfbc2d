"""Files that hold credentials, recognized by name: they never enter a prompt beside another file.

Contents are not examined, so the list of names is long. Names are normalized by `plain_name`: without case,
and as the most lenient file systems compare them. No setting makes an exception; the only exceptions are
names of templates, which are committed to be read.

Code whose name only mentions secrets (`secret_store.go`, `credential.ts`) is treated as code. `secrets.*` and
`credentials.*` are hidden with any suffix, because many projects keep real secrets in `secrets.py` or
`credentials.js`; so is everything in a folder `secrets` or `credentials`.
"""

import re
from functools import lru_cache

from singlepass.files.protect import plain_name

# Names of folders, with everything in them, or of files.
_FOLDER_NAMES = """
.env .envs .ssh .gnupg .password-store .aws .azure .gcloud .oci .kube .cloudflared .linode-cli
legacy_credentials credentials .credentials secrets .secrets
"""
_FOLDERS = frozenset(_FOLDER_NAMES.split())
_FILE_NAMES = """
.envrc .flaskenv
.netrc _netrc .authinfo .git-credentials .gitcookies .npmrc _npmrc .yarnrc.yml .pypirc pip.conf pip.ini
auth.json settings-security.xml
.pgpass pgpass.conf .pg_service.conf .my.cnf .mylogin.cnf .mongorc.js .fetchmailrc .msmtprc .esmtprc
.mailrc .smbcredentials .htpasswd htpasswd .htdigest htdigest passwd shadow
kubeconfig .dockercfg .dockerconfigjson .databrickscfg .scwrc .s3cfg .boto .passwd-s3fs rclone.conf
.ossutilconfig .doctlcfg .ovh.conf ovh.conf ngrok.yml .sentryclirc kaggle.json access_tokens.db
application_default_credentials.json local.settings.json .terraformrc terraform.rc .vault-token
vault_pass vault_pass.txt vault_password vault_password.txt vault.yml vault.yaml
.secret .token .password .passwords password passwords token.json token.pickle
wp-config.php localsettings.php sftp-config.json .ftpconfig .ftppass sftp.json filezilla.xml
sitemanager.xml recentservers.xml winscp.ini datasources.local.xml webservers.xml credentials-config.json
"""
_FILES = frozenset(_FILE_NAMES.split())
_SUFFIXES = """
.env .pem .key .p12 .pfx .p8 .pk8 .jks .jceks .bks .keystore .keytab .ppk .pvk .kdb .kdbx .gpg .pgp .asc
.agekey .ovpn .keychain .keychain-db .mobileprovision .tfstate .tfvars .tfvars.json .htpasswd .secret .secrets
.credentials
"""
_ENDS = tuple(_SUFFIXES.split())
_DATA = r"(?:json[c5]?|ya?ml|toml|ini|cfg|conf|config|properties|env|txt|csv|xml|plist|tfrc|enc|age|bak)"
_PATTERNS = re.compile(
    "|".join(
        (
            r"\.env[._-].*",
            r"id_(?:rsa|dsa|ecdsa|ed25519|xmss)(?![a-z]).*",
            r"(?:secrets|credentials)\..*",
            rf"(?:.*[._-])?(?:secrets?|credentials?)(?:\.[\w-]+)?\.{_DATA}",
            rf"passwords?\.{_DATA}",
            r"\..*_history",
            r".*\.tfstate\..*",
            rf"(?:.*[._-])?kube[._-]?config(?:[_-][\w-]+)?(?:\.{_DATA})?",
            r"\.vault[._-]?pass.*",
            r"(?:.*[._-])?service[._-]?account.*\.json",
            r"(?:.*[._-])?client[._-]?secret.*\.json",
            r"(?:.*[._-])?(?:gcp|gcloud|gcs|sa|firebase)[._-](?:.*[._-])?key.*\.json",
            r".*firebase-adminsdk.*\.json",
            r"secring\..*",
            r"wp-config[._-].*",
        )
    )
)
# Names in folders of which only some entries are hidden.
_INSIDE = frozenset(
    {
        (".config", "configstore"),
        (".config", "doctl"),
        (".config", "gcloud"),
        (".config", "op"),
        (".composer", "auth.json"),
        (".docker", "config.json"),
        (".fly", "config.yml"),
        (".gradle", "gradle.properties"),
        (".m2", "settings.xml"),
        (".mc", "config.json"),
        (".snowsql", "config"),
        ("gh", "hosts.yml"),
        ("glab-cli", "config.yml"),
        ("hub", "config"),
        ("huggingface", "token"),
        (".huggingface", "token"),
    }
)
_TEMPLATES = re.compile(
    r"(?:.*[._-])?env[._-](?:[a-z0-9]+[._-])*(?:example|sample|template|tmpl|dist)"
    r"|(?:.*[._-])?(?:example|sample|template)\.env"
    r"|wp-config-sample\.php"
)
_LONGEST_NAME = 255
"""Maximum path length of any file system; a longer path cannot name a file."""


def is_credential(path: str, *, is_folder: bool = False) -> bool:
    """Whether a file with this path holds credentials, by its name or by that of a folder that contains it.

    With `is_folder`, whether this holds for everything in a folder.
    """
    *folders, last = map(plain_name, path.replace("\\", "/").split("/"))
    if is_folder:
        folders.append(last)
    elif _is_named(last) or (folders and (folders[-1], last) in _INSIDE):
        return True
    elif ":" in path and _is_named(plain_name(path.rpartition(":")[2])):
        return True  # only Windows excludes what follows a colon from the name
    return any(
        folder in _FOLDERS
        or folder.startswith((".env.", "secrets.", "credentials."))
        or (idx and (folders[idx - 1], folder) in _INSIDE)
        for idx, folder in enumerate(folders)
    )


def _is_named(name: str) -> bool:
    return len(name) > _LONGEST_NAME or _is_listed(name)


@lru_cache(maxsize=16_384)
def _is_listed(name: str) -> bool:
    if name in _FOLDERS or name in _FILES or name.endswith(_ENDS) or _PATTERNS.fullmatch(name):
        return _TEMPLATES.fullmatch(name) is None
    return False
