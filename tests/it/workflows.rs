//! The justfile, `.ci/run` and the workflows run the same checks, releases and the image are built
//! alike, and the workflows run pinned actions.

use std::collections::{BTreeMap, BTreeSet};

use crate::architecture::sources;

const JUSTFILE: &str = include_str!("../../justfile");
const CI_RUN: &str = include_str!("../../.ci/run");
const PGO: &str = include_str!("../../.ci/pgo");
const DOCKERFILE: &str = include_str!("../../Dockerfile");
const DOCKERIGNORE: &str = include_str!("../../.dockerignore");
const CI_WORKFLOW: &str = include_str!("../../.github/workflows/ci.yml");
const RELEASE_WORKFLOW: &str = include_str!("../../.github/workflows/release.yml");

#[derive(Debug, Default)]
struct Recipe<'a> {
    dependencies: Vec<&'a str>,
    commands: Vec<&'a str>,
}

/// Returns the recipes of the justfile, without the parameters of their commands.
fn recipes() -> BTreeMap<&'static str, Recipe<'static>> {
    let mut recipes = BTreeMap::new();
    let mut current = None;
    for line in JUSTFILE.lines() {
        if let Some(command) = line.strip_prefix("    ") {
            let recipe: &mut Recipe<'_> = recipes.get_mut(current.unwrap()).unwrap();
            recipe
                .commands
                .push(command.trim_end_matches(" {{ args }}"));
        } else if let Some((head, dependencies)) = line.rsplit_once(':')
            && !line.starts_with('#')
        {
            let name = head.split(' ').next().unwrap();
            let dependencies = dependencies.split_whitespace().collect();
            let recipe = Recipe {
                dependencies,
                ..Recipe::default()
            };
            assert!(recipes.insert(name, recipe).is_none(), "{name}");
            current = Some(name);
        }
    }
    recipes
}

#[test]
fn ci_run_executes_the_commands_of_just_ci() {
    let recipes = recipes();
    let expected: Vec<_> = recipes["ci"]
        .dependencies
        .iter()
        .flat_map(|name| &recipes[name].commands)
        .copied()
        .collect();
    let steps: Vec<_> = CI_RUN
        .lines()
        .filter_map(|line| line.strip_prefix("step "))
        .filter(|command| *command != "cargo --version")
        .collect();
    assert_eq!(steps, expected);
}

#[test]
fn ci_workflow_runs_the_recipes_of_just_ci_full() {
    let recipes = recipes();
    let expected: BTreeSet<_> = recipes["ci-full"].dependencies.iter().copied().collect();
    let run: BTreeSet<_> = CI_WORKFLOW
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("- run: just "))
        .collect();
    assert_eq!(run, expected);
}

#[test]
fn just_pgo_builds_with_the_options_of_just_dist() {
    let recipes = recipes();
    assert_eq!(recipes["pgo"].commands, [".ci/pgo"]);
    let options = recipes["dist"].commands[0].strip_prefix("cargo build");
    assert!(PGO.contains(options.unwrap()), "{options:?}");
}

#[test]
fn releases_and_the_image_are_built_as_just_pgo_does() {
    for text in [DOCKERFILE, RELEASE_WORKFLOW] {
        for part in [".ci/pgo", "llvm-tools", "BUILD=\"cargo auditable build\""] {
            assert!(text.contains(part), "{part}");
        }
        assert!(!text.contains("--profile dist"), "a build without profile");
    }
}

#[test]
fn the_image_is_built_from_files_that_docker_does_not_ignore() {
    let sources = DOCKERFILE
        .lines()
        .filter_map(|line| line.strip_prefix("COPY "))
        .filter(|copy| !copy.starts_with("--from"))
        .flat_map(|copy| copy.rsplit_once(' ').unwrap().0.split(' '));
    let kept: BTreeSet<_> = DOCKERIGNORE
        .lines()
        .filter_map(|line| line.strip_prefix('!'))
        .collect();
    assert_eq!(sources.collect::<BTreeSet<_>>(), kept);
}

#[test]
fn files_outside_src_that_the_program_contains_are_copied_to_the_image() {
    let mut found = 0;
    for (module, code) in sources("src") {
        let included = code
            .split("include_")
            .skip(1)
            .filter_map(|rest| rest.split('"').nth(1));
        // One step up for each part of the module's path leaves `src`.
        for name in included.filter(|name| name.matches("../").count() == module.len()) {
            let copied = format!("\nCOPY {} ", name.trim_start_matches("../"));
            assert!(DOCKERFILE.contains(&copied), "{module:?} includes {name}");
            found += 1;
        }
    }
    assert!(found > 0);
}

#[test]
fn actions_are_pinned_by_commit_with_the_release_as_a_comment() {
    for workflow in [CI_WORKFLOW, RELEASE_WORKFLOW] {
        let actions: Vec<_> = workflow
            .lines()
            .filter_map(|line| line.trim_start_matches([' ', '-']).strip_prefix("uses: "))
            .collect();
        assert!(actions.len() > 3, "{actions:?}");
        for action in actions {
            let (_, pin) = action.split_once('@').unwrap();
            let (commit, release) = pin.split_once(" # v").unwrap_or((pin, ""));
            let is_commit =
                commit.len() == 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
            assert!(is_commit && release.split('.').count() == 3, "{action}");
        }
    }
}
