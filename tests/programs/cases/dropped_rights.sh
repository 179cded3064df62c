# A process that has given up its rights, or has another root directory, can no longer open what
# root opens, but it still forks, executes and runs pipelines.
# sandbox: prefixed
# needs: setpriv perl
((UID == 0)) || { echo 'skip: only root can change its user'; exit 77; }
chmod 711 . ..
$RUN /usr/bin/setpriv --reuid=65534 --regid=65534 --clear-groups /bin/bash -c 'id; echo one | cat | wc -l; (exit 3); echo $?; head -c 1 /etc/shadow'
echo "status $?"
$RUN /usr/bin/perl -e '
  $| = 1; $) = "65534 65534"; $( = 65534; $< = $> = 65534;
  defined(my $pid = fork) or die; if (!$pid) { print "forked as $<\n"; exec "id", "-u" } waitpid $pid, 0; print $? >> 8, "\n";
  print `echo from a shell`; system "/etc/shadow"; print $?, "\n"'
echo "status $?"
$RUN /usr/bin/perl -e '
  $| = 1; mkdir "jail"; chroot "jail" or die; chdir "/";
  for (1 .. 3) { defined(my $pid = fork) or die; if (!$pid) { mkdir "made$_"; exit $_ } waitpid $pid, 0; print $? >> 8, "\n" }'
echo "status $?"
