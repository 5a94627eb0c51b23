"""Made-up tokens that look like those of services, none of them anyone's."""

BODY = "a1B2c3D4e5F6g7H8i9J0"  # 20 characters
TOKENS = [
    *(f"{prefix}{BODY}{BODY[:16]}" for prefix in ("hf_", "ghp_", "gho_", "ghs_", "api_org_")),
    f"github_pat_{BODY}aa_{BODY * 2}",
    *(f"{prefix}{BODY * 2}" for prefix in ("sk-", "sk-proj-", "sk-ant-api03-", "glpat-")),
    f"xoxb-123456789012-{BODY}",
    "AKIA" + "Z7" * 8,
    "AIza" + (BODY * 2)[:35],
    f"eyJ{BODY}.eyJ{BODY}.{BODY}",
]
