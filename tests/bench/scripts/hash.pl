# Hashes, concatenation and patterns. $ARGV[0]: thousands of elements.
use strict;
use warnings;
my (%count, $text);
for my $i (1 .. $ARGV[0] * 1000) {
  my $word = "w" . ($i * 7919) % 10007;
  $count{$word}++;
  $text .= "$word " if $i % 5 == 0;
}
my $sevens = () = $text =~ /w\d*7 /g;
my $joined = join ",", map { "$_=$count{$_}" } sort keys %count;
print length($text), " $sevens ", length($joined), " ", substr($joined, 0, 40), "\n";
