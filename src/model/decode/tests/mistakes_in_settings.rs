use super::flow;

#[test]
fn mistakes_in_settings() {
    insta::assert_snapshot!(flow(r#"    run "a" {
        command "x"
        script "y"
        shell "zsh"
        inpts "x"
        timeout "soon"
        env "A"
        env B="1"; env B="2"
        cache
        aws "true"
        retry
        probe "x"
        undo "never"
        each "svc"
        tool
    }
    run "b"
    ecs-deploy "c" {
        cluster 5
        service "a" "b"
        container "x" { env { A "${secret.k}" }; cpu "12"; comand "x" }
        desired "${param.n}" extra=1
        wait "yes"
    }
    http-check "d" url="http://x" expect=200 within="5"
    notify "e"
    migrate "f" retry=3 { dir "m"; tool "flyway"; aws #true }
    run { command "x" }
    run "g h" { command "x" }
    wait "i" for="1s" { until { comand "x" } }
    secret "k" from="env:K"
    param "n" type="integer""#), @r#"
    error: run "a" takes either command or script
      ┌ flows/a.kdl:4:9
    3 │         command "x"
      │         ─────── besides this
    4 │         script "y"
      │         ━━━━━━ this is one too many

    error: shell cannot be "zsh"
      ┌ flows/a.kdl:5:15
    5 │         shell "zsh"
      │               ━━━━━ did you mean sh?

    error: run has no setting "inpts"
      ┌ flows/a.kdl:6:9
    6 │         inpts "x"
      │         ━━━━━ did you mean inputs?

    error: "soon" is no duration
      ┌ flows/a.kdl:7:17
    7 │         timeout "soon"
      │                 ━━━━━━ write 30s, 5m or 2h

    error: env takes names and values
      ┌ flows/a.kdl:8:13
    8 │         env "A"
      │             ━━━ write env NAME="value"

    error: B is given twice
      ┌ flows/a.kdl:9:24
    9 │         env B="1"; env B="2"
      │             ─ first
      │                        ━ again

    error: cache needs a value
       ┌ flows/a.kdl:10:9
    10 │         cache
       │         ━━━━━ write cache #false

    error: aws is #true or #false
       ┌ flows/a.kdl:11:13
    11 │         aws "true"
       │             ━━━━━━ this is a string
       └ write #true, without quotes

    error: retry does not say how often
       ┌ flows/a.kdl:12:9
    12 │         retry
       │         ━━━━━ write retry 3

    error: probe needs a command
       ┌ flows/a.kdl:13:9
    13 │         probe "x"
       │         ━━━━━ write probe { command "prog" "arg" }

    error: undo cannot be "never"
       ┌ flows/a.kdl:14:14
    14 │         undo "never"
       │              ━━━━━━━ only "none" can stand here

    error: each needs a variable and a list
       ┌ flows/a.kdl:15:9
    15 │         each "svc"
       │         ━━━━ write each "svc" in="${env.services}"

    error: tool needs a name
       ┌ flows/a.kdl:16:9
    16 │         tool
       │         ━━━━ write tool "NAME"

    error: run "b" needs command or script
       ┌ flows/a.kdl:18:5
    18 │     run "b"
       │     ━━━

    error: cluster is a string
       ┌ flows/a.kdl:20:17
    20 │         cluster 5
       │                 ━ this is a number
       └ write "5"

    error: service takes one value
       ┌ flows/a.kdl:21:21
    21 │         service "a" "b"
       │                     ━━━ one too many

    error: container needs "image"
       ┌ flows/a.kdl:22:9
    22 │         container "x" { env { A "${secret.k}" }; cpu "12"; comand "x" }
       │         ━━━━━━━━━
       └ image: as the manual says

    error: a secret cannot stand in "env"
       ┌ flows/a.kdl:22:36
    22 │         container "x" { env { A "${secret.k}" }; cpu "12"; comand "x" }
       │                                    ━━━━━━━━
       └ ecs-deploy takes no secrets

    error: cpu is a whole number
       ┌ flows/a.kdl:22:54
    22 │         container "x" { env { A "${secret.k}" }; cpu "12"; comand "x" }
       │                                                      ━━━━ this is a string
       └ write 12, without quotes

    error: container has no setting "comand"
       ┌ flows/a.kdl:22:60
    22 │         container "x" { env { A "${secret.k}" }; cpu "12"; comand "x" }
       │                                                            ━━━━━━ did you mean command?

    error: desired takes no property extra
       ┌ flows/a.kdl:23:30
    23 │         desired "${param.n}" extra=1
       │                              ━━━━━

    error: wait is #true or #false
       ┌ flows/a.kdl:24:14
    24 │         wait "yes"
       │              ━━━━━ this is a string

    error: "5" is no duration
       ┌ flows/a.kdl:26:53
    26 │     http-check "d" url="http://x" expect=200 within="5"
       │                                                     ━━━ write 30s, 5m or 2h

    error: notify "e" needs "webhook"
       ┌ flows/a.kdl:27:5
    27 │     notify "e"
       │     ━━━━━━
       └ webhook: as the manual says

    error: migrate is not safe to repeat, so it cannot be retried
       ┌ flows/a.kdl:28:17
    28 │     migrate "f" retry=3 { dir "m"; tool "flyway"; aws #true }
       │                 ━━━━━ leave it out

    error: tool cannot be "flyway"
       ┌ flows/a.kdl:28:41
    28 │     migrate "f" retry=3 { dir "m"; tool "flyway"; aws #true }
       │                                         ━━━━━━━━ it is one of sqlx, command

    error: aws stands on run steps only
       ┌ flows/a.kdl:28:51
    28 │     migrate "f" retry=3 { dir "m"; tool "flyway"; aws #true }
       │                                                   ━━━ the kinds that need credentials have them

    error: run needs a name
       ┌ flows/a.kdl:29:5
    29 │     run { command "x" }
       │     ━━━ write run "NAME"

    error: the name of a step cannot contain " "
       ┌ flows/a.kdl:30:9
    30 │     run "g h" { command "x" }
       │         ━━━━━ letters, digits, - and _

    error: until needs "command"
       ┌ flows/a.kdl:31:25
    31 │     wait "i" for="1s" { until { comand "x" } }
       │                         ━━━━━
       └ command: as the manual says

    error: wait "i" takes either for or until
       ┌ flows/a.kdl:31:25
    31 │     wait "i" for="1s" { until { comand "x" } }
       │              ─── besides this
       │                         ━━━━━ this is one too many

    error: until has no setting "comand"
       ┌ flows/a.kdl:31:33
    31 │     wait "i" for="1s" { until { comand "x" } }
       │                                 ━━━━━━ did you mean command?

    error: type cannot be "integer"
       ┌ flows/a.kdl:33:20
    33 │     param "n" type="integer"
       │                    ━━━━━━━━━ it is one of string, int, bool, list, path

    33 mistakes in flows/a.kdl. Nothing was run.
    "#);
}
