# sandbox: whole
# needs: perl
perl -we '
use strict; use POSIX ":sys_wait_h"; use IO::Select; use Socket; use Fcntl ":flock"; $| = 1;
my @pipes; for my $n (1..8) { pipe(my $r, my $w); my $p = fork; if (!$p) { close $r; print $w "child $n ", $n ** 3, "\n"; close $w; POSIX::_exit($n); } close $w; push @pipes, [$p, $r]; }
for (@pipes) { my $r = $_->[1]; print <$r>; waitpid $_->[0], 0; print $? >> 8, "\n"; }
open(my $in, "-|", "seq 3 | tac") or die; print <$in>; close $in; open(my $out, "|-", "tr a-z A-Z; exit 3") or die; print $out "upper\n"; close $out; print $? >> 8, "\n";
open(my $self, "-|") // die; 
socketpair(my $a, my $b, AF_UNIX, SOCK_STREAM, PF_UNSPEC); my $p = fork; if (!$p) { my $l = <$b>; syswrite $b, "echo $l"; POSIX::_exit(0); } syswrite $a, "hello\n"; print scalar <$a>; waitpid $p, 0;
my $got = 0; $SIG{USR1} = sub { $got++ }; kill USR1 => $$ for 1..3; print "signals ", $got > 0 ? "ok" : "none", "\n";
$SIG{ALRM} = sub { die "alarm\n" }; eval { alarm 1; 1 while 1; }; print $@; 
open(my $l, ">", "locked"); flock $l, LOCK_EX; $p = fork; if (!$p) { open(my $m, ">>", "locked"); POSIX::_exit(flock($m, LOCK_EX | LOCK_NB) ? 0 : 1); } waitpid $p, 0; print "locked ", $? >> 8, "\n";
$SIG{CHLD} = "IGNORE"; $p = fork; POSIX::_exit(0) if !$p; print waitpid($p, 0), "\n"; $SIG{CHLD} = "DEFAULT";
print `echo back; exit 2`, $? >> 8, "\n"; print system("kill -9 \$\$") & 127, "\n"; my @deep; sub deep { my $n = shift; if ($n) { my $q = fork; if (!$q) { exit deep($n - 1) } waitpid $q, 0; return ($? >> 8) + 1 } return 0 } 
$p = fork; if (!$p) { POSIX::_exit(deep(20)) } waitpid $p, 0; print "deep ", $? >> 8, "\n"; exec "sh", "-c", "exit 9";
' | sort; echo "${PIPESTATUS[*]}"
