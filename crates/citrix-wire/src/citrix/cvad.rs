//! Operations of CVAD's management API that do without a site (contract §3).

/// Returns `true` if the service of a path requires `Citrix-InstanceId`: CVAD's management API,
/// except the operations that look up a site (contract §3).
pub fn needs_instance_id(path: &str) -> bool {
    const CVAD: &str = "/cvad/manage/";
    match path.split_at_checked(CVAD.len()) {
        Some((start, rest)) if start.eq_ignore_ascii_case(CVAD) => {
            !is_without_site(rest.split('/').next().unwrap_or_default())
        }
        _ => false,
    }
}

/// Returns `true` for operations of CVAD without a site: those that look one up, and `ping`.
pub(super) fn is_without_site(name: &str) -> bool {
    ["me", "sites", "about", "ping"]
        .iter()
        .any(|each| name.eq_ignore_ascii_case(each))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contract_3_only_cvad_operations_on_a_site_need_its_id() {
        for path in [
            "/cvad/manage/Machines",
            "/Cvad/Manage/Machines/1/$reboot",
            "/cvad/manage/meh",
        ] {
            assert!(needs_instance_id(path), "{path}");
        }
        for path in [
            "/cvad/manage/me",
            "/cvad/manage/Me",
            "/cvad/manage/Sites/1",
            "/cvad/manage/ping/status",
            "/cvad%2Fmanage/Machines",
            "/cvad/manage",
            "/systemlog/records",
        ] {
            assert!(!needs_instance_id(path), "{path}");
        }
    }
}
