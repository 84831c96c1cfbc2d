"""Which files hold credentials, by whatever name they are called, and which are ordinary source."""

import pytest
from core.test_protect import disguises
from hypothesis import given
from hypothesis import strategies as st
from singlepass.files.credentials import is_credential

SECRET = [
    *(
        ".env",
        ".env.local",
        ".env.production",
        "conf/.env.staging.local",
        "prod.env",
        ".envrc",
        ".envs/.prod/.pg",
    ),
    *(
        "id_rsa",
        "id_dsa",
        "id_ecdsa",
        "id_ed25519",
        "id_ed25519_sk",
        "keys/id_rsa.bak",
        ".ssh/config",
        "a.ppk",
    ),
    *("server.key", "server.pem", "a.p12", "a.pfx", "a.p8", "a.jks", "a.keystore", "a.keytab", "vault.kdbx"),
    *("private.asc", "secring.gpg", "me.gpg", ".gnupg/x", "office.ovpn"),
    *(".netrc", "_netrc", ".git-credentials", ".npmrc", ".pypirc", ".yarnrc.yml", ".authinfo"),
    *("terraform.tfstate", "terraform.tfstate.backup", "prod.tfvars", "a.auto.tfvars.json", ".terraformrc"),
    *(
        "kubeconfig",
        "kubeconfig.yaml",
        "prod.kubeconfig",
        ".kube/config",
        ".docker/config.json",
        ".dockercfg",
    ),
    *(".aws/credentials", ".aws/config", ".azure/x.json", ".config/gcloud/a.json", ".config/gh/hosts.yml"),
    *("service-account.json", "service-account-prod.json", "my_service_account.json", "gcp-key.json"),
    *(
        "client_secret.json",
        "client_secret_1234.apps.json",
        "client_secrets.json",
        "x-firebase-adminsdk-1.json",
    ),
    *(
        ".pgpass",
        ".my.cnf",
        ".htpasswd",
        "web/.htpasswd",
        ".vault-token",
        ".vault_pass.txt",
        ".s3cfg",
        ".boto",
    ),
    *("secrets/prod.yaml", "deploy/secrets/token.txt", "src/secrets/keys.py", "credentials/a.json"),
    *("secrets.yml", "secrets.json", "secrets.toml", "secrets.py", "credentials", "credentials.ts"),
    *("app-secrets.yaml", "db.secret.json", "secret.yaml", "passwords.txt", "wp-config.php", "auth.json"),
    *(".bash_history", "token.json", "local.settings.json", "rclone.conf", "config/master.key"),
]
PLAIN = [
    *(
        "src/main.py",
        "README.md",
        ".gitignore",
        ".github/workflows/ci.yml",
        "package.json",
        "env.py",
        "env.d.ts",
    ),
    *("environment.py", "src/env/index.ts", "secret_store.go", "credential.ts", "src/credential_helper.py"),
    *("password_reset.py", "src/password/form.tsx", "templates/password_reset_email.txt", "token.py"),
    *("tokens.json", "src/token/lexer.rs", "kubeconfig.go", "pkg/kubeconfig/load.go", "service_account.py"),
    *("client_secret.go", "keys.py", "public.key.ts", "keyboard.json", "monkey.json", "chat_history.py"),
    *("docker/config.json", "hosts.yml", "auth.ts", "auth/json.ts", "vault.py", "id_rsa_of_mine/../a.py", ""),
    # Templates are committed to be read.
    *(".env.example", ".env.sample", ".env.template", ".env.dist", ".env.local.example", "example.env"),
    *("wp-config-sample.php", "terraform.tfvars.example"),
]


@pytest.mark.parametrize("path", SECRET)
def test_credentials(path: str) -> None:
    assert is_credential(path)
    assert is_credential(f"deep/down/{path}")


@pytest.mark.parametrize("path", PLAIN)
def test_what_is_source(path: str) -> None:
    assert not is_credential(path)


@given(st.sampled_from(SECRET), st.data())
def test_case_and_unseen_characters_hide_nothing(path: str, data: st.DataObject) -> None:
    assert is_credential(disguises(path, data))


@pytest.mark.parametrize("name", [".env::$DATA", ".env.", ".env ", "．env", "a:server.key", "a\\.env"])
def test_names_that_a_file_system_may_take_for_another(name: str) -> None:
    assert is_credential(name)
    assert is_credential(f"a/{name}")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (".env", True),
        ("a/secrets", True),
        (".kube", True),
        ("password", False),
        ("kubeconfig", False),
        ("a", False),
    ],
)
def test_folders_of_which_all_is_hidden(path: str, expected: bool) -> None:
    assert is_credential(path, is_folder=True) == expected
    assert is_credential(f"{path}/x.py") == expected


@given(st.text())
def test_any_path_has_an_answer(path: str) -> None:
    assert isinstance(is_credential(path), bool)


def test_a_name_of_any_length_has_an_answer_at_once() -> None:
    for piece in ("service-account", "a.tfstate.", "env.", "firebase-adminsdk", "gcp_key"):
        assert is_credential(piece * 100_000)  # no file is called so: nothing is known of it
